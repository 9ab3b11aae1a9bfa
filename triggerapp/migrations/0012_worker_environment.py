import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('triggerapp', '0011_run_of_version'),
    ]

    operations = [
        migrations.AddField(
            model_name='worker',
            name='environment',
            field=models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='triggerapp.environment'),
        ),
    ]


from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('triggerapp', '0008_firing_actor'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='version',
            field=models.CharField(max_length=64, null=True),
        ),
    ]


from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('triggerapp', '0009_personal_tokens'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='version',
            field=models.CharField(max_length=64, null=True),
        ),
    ]

import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('triggerapp', '0002_schedules_and_variables'),
    ]

    operations = [
        migrations.CreateModel(
            name='LogLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lease', models.PositiveBigIntegerField()),
                ('attempt', models.PositiveSmallIntegerField()),
                ('step', models.CharField(max_length=255)),
                ('level', models.PositiveSmallIntegerField()),
                ('logger', models.CharField(max_length=255)),
                ('text', models.TextField()),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('environment', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='triggerapp.environment')),
                ('run', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='log', to='triggerapp.run')),
            ],
            options={
                'indexes': [models.Index(fields=['run', 'id'], name='logline_of_run'), django.contrib.postgres.indexes.BrinIndex(fields=['at'], name='logline_by_time')],
            },
        ),
    ]
